"""The operator's forms for named routes."""

from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization, Plan
from relay.domains import DomainRefused, canonical_domain
from relay.models import NamedRoute, SendingDomain
from relay.models.messages import Route
from relay.named_routes import RouteFacts, RouteRefused, parse_hosts

KINDS = (
    (Route.SMARTHOST, _("Smarthost: one server takes everything, the next one where it does not answer")),
    (Route.MX, _("MX: to each recipient's own mail servers, found by DNS")),
    (Route.SANDBOX, _("Sandbox: nothing leaves Gatepost, and every mail counts as delivered")),
    (Route.HOLD, _("Hold: everything waits until the route is changed")),
)
_PLAIN = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}


class RouteForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=64, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    kind = forms.ChoiceField(label=_("What it does"), choices=KINDS, widget=forms.RadioSelect)
    hosts = forms.CharField(
        label=_("Servers of the smarthost"),
        required=False,
        max_length=4000,
        help_text=_("One a line, like smtp.example.net:587, in the order in which they are tried."),
        widget=forms.Textarea(attrs={"rows": 3, **_PLAIN}),
    )
    tls = forms.ChoiceField(label=_("Encryption to the smarthost"), choices=NamedRoute.Tls.choices, required=False)
    ca_pem = forms.CharField(
        label=_("Own authorities"),
        required=False,
        max_length=70_000,
        strip=True,
        help_text=_("Certificates in PEM form that the server's one must come from. Empty: those of the system."),
        widget=forms.Textarea(attrs={"rows": 3, **_PLAIN}),
    )
    username = forms.CharField(
        label=_("User name"), required=False, max_length=255, widget=forms.TextInput(attrs=_PLAIN)
    )
    password = forms.CharField(
        label=_("Password"),
        required=False,
        max_length=255,
        strip=False,
        help_text=_("Encrypted when it is saved, and never shown again. Empty: it stays as it is."),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    source_ipv4 = forms.CharField(
        label=_("Connect from (IPv4)"),
        required=False,
        max_length=64,
        help_text=_("An address of the machine that delivers. Empty: the system chooses."),
        widget=forms.TextInput(attrs=_PLAIN),
    )
    source_ipv6 = forms.CharField(
        label=_("Connect from (IPv6)"), required=False, max_length=64, widget=forms.TextInput(attrs=_PLAIN)
    )

    @classmethod
    def initial_of(cls, route: NamedRoute) -> dict[str, Any]:
        same = ("name", "kind", "tls", "ca_pem", "username", "source_ipv4", "source_ipv6")
        return {name: getattr(route, name) for name in same} | {"hosts": hosts_text(route)}

    def clean_hosts(self) -> tuple[tuple[str, int], ...]:
        try:
            return parse_hosts(self.cleaned_data["hosts"], default_port=settings.GATEPOST_SMARTHOST_PORT)
        except RouteRefused as refused:
            raise ValidationError(refused.message_dict["hosts"]) from None

    def facts(self) -> RouteFacts:
        values = self.cleaned_data
        return RouteFacts(
            name=values["name"].strip(),
            kind=values["kind"],
            hosts=values["hosts"],
            tls=values["tls"] or NamedRoute.Tls.VERIFIED,
            ca_pem=values["ca_pem"],
            username=values["username"],
            password=values["password"] or None,
            source_ipv4=values["source_ipv4"].strip(),
            source_ipv6=values["source_ipv6"].strip(),
        )

    def take(self, refused: RouteRefused) -> None:
        for name, words in refused.message_dict.items():
            self.add_error(name, words)


def hosts_text(route: NamedRoute) -> str:
    return "\n".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in route.hosts)


class ChoiceForm(forms.Form):
    """Exactly one of the three."""

    customer = forms.CharField(
        label=_("Customer"), required=False, max_length=64, help_text=_("Its short name."),
        widget=forms.TextInput(attrs=_PLAIN),
    )  # fmt: skip
    domain = forms.CharField(
        label=_("Sending domain"),
        required=False,
        max_length=253,
        help_text=_("Of the customer above: only mail from this domain. Empty: all mail of the customer."),
        widget=forms.TextInput(attrs=_PLAIN),
    )
    plan = forms.ModelChoiceField(
        label=_("Or a plan"),
        queryset=Plan.objects.order_by("position"),
        required=False,
        help_text=_("All customers on it that have no route of their own."),
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        customer, domain, plan = values.get("customer"), values.get("domain"), values.get("plan")
        if bool(customer) == bool(plan) or (domain and not customer):
            raise ValidationError(_("Name a customer, or choose a plan."))
        values["of"] = plan or _of(str(customer), str(domain or ""))
        return values


def _of(slug: str, name: str) -> SendingDomain | Organization:
    """Raises ValidationError by field."""
    organization = customer_of(slug)
    if organization is None:
        raise ValidationError({"customer": _("There is no customer of this short name.")})
    if not name:
        return organization
    domain = domain_of(organization, name)
    if domain is None:
        raise ValidationError({"domain": _("The customer has not added this domain.")})
    return domain


def customer_of(slug: str) -> Organization | None:
    slug = slug.strip().lower()
    if not slug or "\0" in slug or len(slug) > 64:
        return None
    return Organization.objects.filter(slug=slug).select_related("subscription__plan").first()


def domain_of(organization: Organization, name: str) -> SendingDomain | None:
    try:
        canonical = canonical_domain(name)
    except DomainRefused:
        return None
    return SendingDomain.objects.filter(organization=organization, name=canonical).first()


class DestinationForm(forms.Form):
    destination = forms.CharField(
        label=_("A recipient's domain"),
        max_length=253,
        widget=forms.TextInput(attrs={"placeholder": "example.org", **_PLAIN}),
    )
