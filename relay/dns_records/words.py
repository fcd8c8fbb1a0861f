"""What the DNS said of a record, in words: what is wrong, and what to do.

Shapes  told(problem) -> a sentence or two. A problem is a code with facts, as relay.dns_records.look finds it.
        PURPOSES: what each kind of record is for.
Errors  None: a code without words (of another version) is shown as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from relay.models import RecordKind

PURPOSES: Final = {
    RecordKind.OWNERSHIP: gettext_lazy("Proves that the domain is yours. Leave it there: it is looked at again."),
    RecordKind.DKIM: gettext_lazy("The public half of a key that signs your mail."),
    RecordKind.SPF: gettext_lazy("Names the servers that may send with your domain in the return path."),
    RecordKind.DMARC: gettext_lazy("Says what receivers do with mail that only pretends to be yours."),
    RecordKind.RETURN_PATH: gettext_lazy(
        "Lets reports of undelivered mail come back under your own name, so SPF fits."
    ),
}
_WORDS: Final[Mapping[str, Any]] = {
    "no_answer": gettext_lazy("The DNS did not answer. It is asked again by itself."),
    "doubled": gettext_lazy(
        "It stands at %(name)s: your DNS provider adds the domain by itself. Enter the name without it."
    ),
    "ownership_none": gettext_lazy("It is not there yet. A new record can take some minutes to be seen."),
    "ownership_other": gettext_lazy("There is a proof, but not yours. Add yours beside it, or replace it."),
    "dkim_none": gettext_lazy("It is not there. Publish it as shown; the name has to fit exactly."),
    "dkim_many": gettext_lazy("There are several records at this name. Only this one may stand there."),
    "dkim_syntax": gettext_lazy("What stands there is no DKIM record. Replace it with the value shown."),
    "dkim_no_key": gettext_lazy("The record has no p= with the key. Publish the whole value."),
    "dkim_revoked": gettext_lazy("The record says that the key is withdrawn (p= is empty). Publish the value shown."),
    "dkim_algorithm": gettext_lazy("The record is for another kind of key (%(subject)s). Publish the value shown."),
    "dkim_cut": gettext_lazy(
        "Only %(subject)s characters of the key are there: the provider cut it. Enter it in parts of at most 255"
        " characters, each in quotation marks, in one record."
    ),
    "dkim_other_key": gettext_lazy("Another key stands there. Replace the record with the value shown."),
    "dkim_hash": gettext_lazy("h= does not allow sha256. Publish the value shown."),
    "dkim_service": gettext_lazy("s= does not allow mail. Publish the value shown."),
    "dkim_testing": gettext_lazy(
        "t=y says that this is a test; take it out, or receivers may not count the signature."
    ),
    "spf_none": gettext_lazy("The domain has no SPF record. Publish it as shown."),
    "spf_none_known": gettext_lazy(
        "The domain has no SPF record. The operator has not said which servers belong into one; DKIM does without."
    ),
    "spf_many": gettext_lazy("There are two SPF records, which is as good as none. Make one of them, as shown."),
    "spf_syntax": gettext_lazy("“%(subject)s” is not SPF, and a mistake spoils the whole record."),
    "spf_target_empty": gettext_lazy("It leads to %(subject)s, which has no SPF record; that spoils all of it."),
    "spf_hosts": gettext_lazy("%(subject)s has more than ten mail servers, more than SPF may look at."),
    "spf_lookups": gettext_lazy(
        "It takes %(lookups)s DNS lookups; receivers stop at ten and count it as broken. Take out what you do not use."
    ),
    "spf_voids": gettext_lazy("%(voids)s of its names are not in the DNS; receivers stop at the third."),
    "spf_not_us": gettext_lazy("For our address %(ip)s it says %(result)s. Publish the value shown."),
    "spf_not_included": gettext_lazy("It does not include %(include)s, so mail from here does not pass."),
    "spf_open": gettext_lazy("+all lets everybody in the world send as you. End it with ~all or -all."),
    "spf_no_end": gettext_lazy("It has no all at the end, so it says nothing about other servers. Add ~all."),
    "dmarc_none": gettext_lazy("There is no DMARC record, neither here nor at the domain above. Publish it as shown."),
    "dmarc_many": gettext_lazy("There are two DMARC records at %(subject)s, which is as good as none."),
    "dmarc_version": gettext_lazy("It must begin with v=DMARC1; this one is not read: %(subject)s"),
    "dmarc_policy": gettext_lazy("p= must be none, quarantine or reject."),
    "dmarc_syntax": gettext_lazy("“%(subject)s” is not DMARC."),
    "dmarc_watches": gettext_lazy(
        "p=none only watches. Once all your mail is signed, say p=quarantine, then p=reject, and nobody can pretend."
    ),
    "dmarc_percent": gettext_lazy("It holds for %(percent)s of a hundred mails. Without pct= it holds for all."),
    "dmarc_reports": gettext_lazy("%(subject)s has not agreed to get your reports (RFC 7489 7.1)."),
    "return_path_none": gettext_lazy("It is not there. Without it reports come back under the relay's own name."),
    "return_path_other": gettext_lazy("It leads elsewhere. Replace it with the value shown."),
}


def told(problem: Sequence[Any]) -> str:
    code, facts = str(problem[0]), problem[1] if len(problem) > 1 else {}
    words = _WORDS.get(code)
    if words is None:
        return code
    try:
        return str(words) % facts
    except (KeyError, TypeError, ValueError):
        return str(words)


def held_elsewhere() -> str:
    return _(
        "Another organization holds this domain. Your proof is seen; the domain becomes yours as soon as theirs is"
        " taken out of its DNS. If you cannot do that, ask support."
    )
