"""What Postfix, Dovecot and Exim are told when they take part in tests (tests/plugins/peers.py).

Source  postconf(5), master(5); Dovecot 2.3, doc/wiki; Exim 4.96, spec.txt.
"""

POSTFIX = (
    "postfix", "dovecot-core", "libexttextcat-2.0-0", "libstemmer0d", "libtirpc3", "libunwind8", "libwrap0", "libnsl2",
    "libsodium23", "liblua5.4-0", "libdb5.3", "libsasl2-2", "libsasl2-modules", "libicu72",
)  # fmt: skip
EXIM = (
    "exim4-daemon-light", "exim4-base", "libdb5.3", "libgnutls-dane0", "libgnutls30", "libidn12", "libidn2-0",
    "libnsl2", "libpcre2-8-0", "libunbound8", "libevent-2.1-7", "libtirpc3", "libhogweed6", "libnettle8", "libgmp10",
    "libunistring2", "libp11-kit0", "libtasn1-6", "libffi8",
)  # fmt: skip
QUEUES = (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop", "private", "public",
    "saved", "trace", "pid",
)  # fmt: skip
MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {place}/spool
data_directory = {place}/data
maillog_file = {place}/log
maillog_file_prefixes = {place}
mail_owner = postfix
setgid_group = postdrop
inet_protocols = ipv4
inet_interfaces = 127.0.0.1
mynetworks = 127.0.0.0/8
myhostname = postfix.example
mydestination =
alias_maps =
local_recipient_maps =
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_tls_cert_file = {place}/server.pem
smtpd_tls_key_file = {place}/server.pem
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_recipient_restrictions =
    check_recipient_access inline:{{ {{ {refused} = 550 5.1.1 No such person }} {{ {greylisted} = 450 4.2.0 Later }} }}
    check_client_access static:HOLD
    permit
smtp_tls_security_level = verify
smtp_tls_verify_cert_match = localhost
smtp_tls_CAfile = {place}/authority.pem
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = texthash:{place}/etc/login
disable_dns_lookups = yes
minimal_backoff_time = 1000s
"""
MASTER_CF = """\
127.0.0.1:{open_port} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt
127.0.0.1:{login_port} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes
    -o smtpd_client_restrictions=permit_sasl_authenticated,reject
127.0.0.1:{relay_port} inet n - n - - smtpd -o smtpd_recipient_restrictions=permit_mynetworks,reject
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
scache unix - - n - 1 scache
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
DOVECOT = """\
protocols =
base_dir = {place}/dovecot
log_path = {place}/dovecot.log
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {place}/etc/users
}}
service auth {{
  unix_listener {place}/spool/private/auth {{
    mode = 0660
    user = postfix
    group = postfix
  }}
}}
"""
EXIM_CONF = """\
primary_hostname = exim.example
spool_directory = {place}/spool
log_file_path = {place}/log-%slog
pid_file_path = {place}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {open_port} : {login_port}
host_lookup =
rfc1413_hosts =
queue_only = true
tls_advertise_hosts = *
tls_certificate = {place}/server.pem
auth_advertise_hosts = ${{if and{{{{def:tls_in_cipher}}{{eq{{$received_port}}{{{login_port}}}}}}}{{*}}}}
acl_smtp_rcpt = recipient
acl_smtp_data = accept
begin acl
recipient:
  deny !encrypted = *
       message = 5.7.0 TLS first
  deny condition = ${{if eq{{$received_port}}{{{login_port}}}}}
       !authenticated = *
       message = 5.7.0 Sign in first
  deny recipients = {refused}
       message = 5.1.1 No such person
  defer recipients = {greylisted}
       message = 4.2.0 Later
  accept
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and{{{{eq{{$auth2}}{{{username}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
"""
