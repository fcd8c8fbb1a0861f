"""The tables of the relay, a file for each noun."""

from relay.models.bans import Ban, ProtectedRange
from relay.models.bounces import BounceClass, LateBounce, Report, Suppression
from relay.models.connection_tests import ConnectionTest
from relay.models.domains import DkimKey, DomainRecord, Proof, RecordKind, RecordState, SendingDomain
from relay.models.door_failures import DoorFailure
from relay.models.learning import NetworkLearning, SignInPolicy
from relay.models.limits import LimitWindow
from relay.models.message_events import MessageEvent
from relay.models.messages import DeliveryAttempt, Message, MessageData, Recipient
from relay.models.mta_sts import MtaStsPolicy
from relay.models.next_hops import NextHopTrouble
from relay.models.password_life import CredentialAlarm, LeakReport, PasswordNotice, PasswordPolicy
from relay.models.queue_actions import Hold, QueueAction, QueueActionItem, QueueSummary
from relay.models.refusals import Refusal
from relay.models.reputation import ReputationSpan, SelfCheck
from relay.models.routes import NamedRoute, RouteChoice, RouteTrial
from relay.models.smtp_users import AppPassword, CredentialChange, Network, SenderAddress, SmtpUser
from relay.models.workers import Worker

__all__ = [
    "AppPassword",
    "Ban",
    "BounceClass",
    "ConnectionTest",
    "CredentialAlarm",
    "CredentialChange",
    "DeliveryAttempt",
    "DkimKey",
    "DomainRecord",
    "DoorFailure",
    "Hold",
    "LateBounce",
    "LeakReport",
    "LimitWindow",
    "Message",
    "MessageData",
    "MessageEvent",
    "MtaStsPolicy",
    "NamedRoute",
    "Network",
    "NetworkLearning",
    "NextHopTrouble",
    "PasswordNotice",
    "PasswordPolicy",
    "Proof",
    "ProtectedRange",
    "QueueAction",
    "QueueActionItem",
    "QueueSummary",
    "Recipient",
    "RecordKind",
    "RecordState",
    "Refusal",
    "Report",
    "ReputationSpan",
    "RouteChoice",
    "RouteTrial",
    "SelfCheck",
    "SenderAddress",
    "SendingDomain",
    "SignInPolicy",
    "SmtpUser",
    "Suppression",
    "Worker",
]
