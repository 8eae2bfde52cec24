# ruff: noqa: E501 (one entry a line, so that two can be compared)
"""The explanations that every installation starts with: plain data, and how it is put into the table.

What an administrator changes stays changed: an entry is only added where none names the same facts.
"""

from collections.abc import Iterable
from typing import Any

FACTS = ("source_name", "error_type", "code_from", "code_to", "words")

SIGN_IN = "Ask the fleet to sign in to {provider} again on the connection's page at Catena; then send again."
WRITE_PROVIDER = "If it goes on, write to {provider}'s support with the text for support from this page."


def _entry(
    facts: str, title: str, what: str, who: str, again: str, step: str, advice: str = "", *, is_specific: bool = True
) -> dict[str, Any]:
    """`facts` is `type code words`: a dash for none, a code as `503` or `500-599`."""
    error_type, codes, words = (part.strip() for part in facts.split("|"))
    low, _, high = codes.partition("-")
    return {
        "source_name": "", "error_type": error_type, "code_from": int(low) if low else None,
        "code_to": int(high) if high else None, "words": words, "title": title, "what": what, "who": who, "again": again,
        "step": step, "advice": advice, "is_specific": is_specific,
    }  # fmt: skip


STARTING_SET: tuple[dict[str, Any], ...] = (
    # Catena's four types, when nothing more telling is known
    _entry("auth||", "{provider} refused the sign-in", "{provider} no longer accepts the credentials that the fleet gave Catena. No message gets through until the fleet signs in again.", "fleet", "later", "connection", SIGN_IN),
    _entry("validation||", "{provider} did not accept the message", "{provider} read the message and refused what is in it or whom it is for.", "sender", "pointless", "shorten", "Read its words below, change the message, and send it again.", is_specific=False),
    _entry("network||", "The line to {provider} failed", "Catena could not reach {provider}, or the line broke while it waited for an answer.", "provider", "check", "call", "Ask the driver before sending again: the message may have arrived.", is_specific=False),
    _entry("tsp||", "{provider} reported an error", "{provider} had trouble of its own with the message and does not say more.", "provider", "check", "escalate", WRITE_PROVIDER, is_specific=False),
    _entry("rejected||", "Catena did not take the message", "Catena refused the message before it went to {provider}. Nothing reached {driver}.", "us", "pointless", "connection", "Read its words below. If they do not help, ask your administrator.", is_specific=False),
    _entry("expired||", "It became too old before it could be sent", "Sending was held up until the message was of no more use, so Backhaul did not send it.", "sender", "yes", "resend", "Send it again if it still holds; otherwise write anew."),
    # HTTP codes of the provider
    _entry("|400|", "{provider} did not understand the request", "The request had a form that {provider} does not take. Nothing was kept.", "us", "pointless", "escalate", "Sending the same again fails the same way. Give the text for support to your administrator."),
    _entry("|401|", "{provider} refused the sign-in", "{provider} no longer accepts the credentials that the fleet gave Catena.", "fleet", "later", "connection", SIGN_IN),
    _entry("|402|", "The fleet's account at {provider} asks for payment", "{provider} answers only paid accounts, and it counts this one as unpaid or without messaging.", "fleet", "later", "call", "The fleet must settle it with {provider}. Call the driver meanwhile."),
    _entry("|403|", "{provider} does not allow it", "The account that the fleet connected may not send messages, or not to this driver.", "fleet", "later", "connection", "Ask the fleet to give the account the right to send messages at {provider}."),
    _entry("auth|403|", "The account may not send messages", "{provider} knows the account and does not let it send messages.", "fleet", "later", "connection", "Ask the fleet to give the account the right to send messages at {provider}, or to connect another one."),
    _entry("|404|", "{provider} does not know this driver", "{provider} has no such driver or device any more. It was deleted or moved to another account.", "fleet", "pointless", "other_connection", "Use the driver's other connection if there is one, or ask the fleet to look the driver up."),
    _entry("|405|", "{provider} has no way to take such a message", "The address exists at {provider} and does not take messages.", "provider", "pointless", "escalate", "Give the text for support to your administrator."),
    _entry("|408|", "{provider} did not answer in time", "{provider} waited too long for a part of the request and gave up.", "provider", "later", "resend", "Usually over within minutes."),
    _entry("|409|", "{provider} holds something like it already", "The message clashes with one that {provider} has: mostly the same message once more.", "sender", "check", "call", "Ask the driver whether the message is there before sending it again."),
    _entry("|410|", "What was written to no longer exists", "{provider} has removed this driver, device or conversation.", "fleet", "pointless", "other_connection", "Use the driver's other connection if there is one, or call."),
    _entry("|413|", "The message is too long for {provider}", "{provider} takes only shorter messages. Nothing was kept.", "sender", "pointless", "shorten", "Shorten it, or send it in two parts."),
    _entry("|415|", "{provider} does not take this kind of message", "The form of the request is one that {provider} does not read.", "us", "pointless", "escalate", "Give the text for support to your administrator."),
    _entry("|422|", "{provider} did not accept the content", "{provider} read the message and refused what is in it or whom it is for. Nothing was kept.", "sender", "pointless", "shorten", "Read its words below, change the message, and send it again."),
    _entry("|423|", "The driver or device is locked at {provider}", "{provider} keeps this driver or device closed for the moment, often while it is being set up.", "fleet", "later", "call", "Ask the fleet to unlock it. Call the driver meanwhile."),
    _entry("|425|", "{provider} was asked too early", "{provider} was not ready for the request and did not work on it.", "provider", "later", "resend", "Send it again in a minute."),
    _entry("|429|", "{provider} asks to slow down", "More was sent through this connection than {provider} takes in a short time. It did not work on this message.", "provider", "later", "resend", "Wait some minutes and send it again. If it goes on, ask the fleet about its limits at {provider}."),
    _entry("|500|", "Something broke inside {provider}", "{provider} had an error of its own, perhaps after it had taken the message.", "provider", "check", "call", WRITE_PROVIDER),
    _entry("|501|", "{provider} cannot do this", "{provider} or Catena's link to it has no way to send messages.", "provider", "pointless", "other_connection", "Use the driver's other connection if there is one, or call."),
    _entry("|502|", "A part of {provider} could not be reached", "{provider}'s front door answered, and what is behind it did not.", "provider", "check", "call", "Usually over within minutes. " + WRITE_PROVIDER),
    _entry("|503|", "{provider} was down or overloaded", "{provider} was not able to work on the message, usually for a short while.", "provider", "check", "call", "Usually over within minutes. Ask the driver before sending it again."),
    _entry("|504|", "{provider} did not answer in time", "A part of {provider} took too long, perhaps after it had taken the message.", "provider", "check", "call", "Ask the driver before sending it again."),
    _entry("|505-599|", "Something went wrong at {provider}", "{provider} had an error of its own, perhaps after it had taken the message.", "provider", "check", "call", WRITE_PROVIDER),
    # What the texts tell
    _entry("auth||expired", "The sign-in to {provider} has expired", "The credentials that the fleet gave Catena ran out. No message gets through until it signs in again.", "fleet", "later", "connection", SIGN_IN),
    _entry("auth||scope", "The account may not send messages", "The fleet connected {provider} without the right to send messages.", "fleet", "later", "connection", "Ask the fleet to sign in again and to allow messages."),
    _entry("auth||permission", "The account may not send messages", "The account that the fleet connected has no right to send messages at {provider}.", "fleet", "later", "connection", "Ask the fleet to give the account that right at {provider}."),
    _entry("auth||certificate", "{provider} and Catena do not trust each other's certificate", "A certificate between Catena and {provider} is expired or unknown. It concerns every fleet at this provider.", "provider", "later", "escalate", WRITE_PROVIDER),
    _entry("validation||not active", "{driver} is not active at {provider}", "{provider} takes messages for active drivers only, and {driver} is switched off there.", "fleet", "pointless", "other_connection", "Ask the fleet to make the driver active, use the other connection, or call."),
    _entry("validation||inactive", "{driver} is not active at {provider}", "{provider} takes messages for active drivers only, and {driver} is switched off there.", "fleet", "pointless", "other_connection", "Ask the fleet to make the driver active, use the other connection, or call."),
    _entry("validation||device", "{driver} has no device for messages", "{provider} has no tablet or unit on record on which {driver} could read the message.", "fleet", "pointless", "other_connection", "Ask the fleet to give the driver a device, use the other connection, or call."),
    _entry("validation||not assigned to a vehicle", "{driver} is in no vehicle", "{provider} sends messages to the vehicle, and {driver} is signed in to none.", "fleet", "later", "call", "Call the driver, or send it again once the driver has signed in."),
    _entry("validation||not logged in", "{driver} is not signed in", "{provider} takes messages for drivers who are signed in to their device.", "sender", "later", "call", "Call the driver, or send it again later."),
    _entry("validation||longer than", "The message is too long for {provider}", "{provider} takes only shorter messages. Nothing was kept.", "sender", "pointless", "shorten", "Shorten it, or send it in two parts."),
    _entry("validation||too long", "The message is too long for {provider}", "{provider} takes only shorter messages. Nothing was kept.", "sender", "pointless", "shorten", "Shorten it, or send it in two parts."),
    _entry("validation||empty", "The message had no text", "{provider} takes no message without words.", "sender", "pointless", "shorten", "Write something and send it again."),
    _entry("validation||character", "The message has characters that {provider} does not take", "Symbols, emoji or letters of another alphabet are refused by some providers.", "sender", "pointless", "shorten", "Leave the unusual characters out and send it again."),
    _entry("validation||sender", "{provider} does not take messages from this sender", "The office user in whose name the message went out may not write at {provider}.", "us", "later", "connection", "An administrator can choose another sender for the connection."),
    _entry("network||timed out", "{provider} did not answer in time", "Catena had sent the message or was about to, and no answer came.", "provider", "check", "call", "Ask the driver before sending it again: the message may have arrived."),
    _entry("network||timeout", "{provider} did not answer in time", "Catena had sent the message or was about to, and no answer came.", "provider", "check", "call", "Ask the driver before sending it again: the message may have arrived."),
    _entry("network||refused", "{provider} did not open the line", "{provider}'s servers turned Catena away. It is mostly a stop for maintenance.", "provider", "check", "call", WRITE_PROVIDER),
    _entry("network||reset", "The line to {provider} broke", "The line broke in the middle, so nobody knows whether the message had arrived.", "provider", "check", "call", "Ask the driver before sending it again."),
    _entry("network||dns", "{provider}'s address could not be found", "The name of {provider}'s servers could not be looked up. It concerns every fleet at this provider.", "provider", "check", "escalate", WRITE_PROVIDER),
    _entry("network||name resolution", "{provider}'s address could not be found", "The name of {provider}'s servers could not be looked up. It concerns every fleet at this provider.", "provider", "check", "escalate", WRITE_PROVIDER),
    _entry("network||certificate", "{provider}'s certificate is not valid", "Catena does not talk to servers whose certificate is expired or unknown.", "provider", "check", "escalate", WRITE_PROVIDER),
    _entry("network||unreachable", "{provider} could not be reached", "No way leads to {provider}'s servers at the moment.", "provider", "check", "call", WRITE_PROVIDER),
    _entry("tsp||offline", "{driver}'s device is offline", "{provider} could not reach the device. Some providers deliver later, when it is back.", "fleet", "check", "call", "Call the driver: the message may still come through by itself."),
    _entry("tsp||temporarily unavailable", "{provider} was down or overloaded", "{provider} was not able to work on the message, usually for a short while.", "provider", "check", "call", "Usually over within minutes. Ask the driver before sending it again."),
    _entry("tsp||rate limit", "{provider} asks to slow down", "More was sent through this connection than {provider} takes in a short time.", "provider", "later", "resend", "Wait some minutes and send it again."),
    _entry("tsp||too many requests", "{provider} asks to slow down", "More was sent through this connection than {provider} takes in a short time.", "provider", "later", "resend", "Wait some minutes and send it again."),
    _entry("tsp||maintenance", "{provider} is being worked on", "{provider} has switched messages off for maintenance.", "provider", "check", "wait", "Wait until it is back; call the driver if it cannot wait."),
    # What Catena itself refuses
    _entry("rejected|400|", "Catena did not understand the request", "Catena refused the form of the request. Nothing reached {driver}.", "us", "pointless", "escalate", "Give the text for support to your administrator."),
    _entry("rejected|403|", "The fleet does not let us send messages", "Catena says that the fleet shares its messages for reading only. Nothing reached {driver}.", "fleet", "later", "connection", "Ask the fleet to grant read and write for messages."),
    _entry("rejected|404|", "Catena no longer knows this driver or connection", "The driver or the connection is gone at Catena. Nothing reached {driver}.", "fleet", "pointless", "other_connection", "Use the driver's other connection if there is one, or call."),
    _entry("rejected|409|", "The connection cannot take messages now", "Catena says that the connection is not in a state to send. Nothing reached {driver}.", "fleet", "later", "connection", "Look at what the connection needs; then send again."),
    _entry("rejected|413|", "The message is too long for Catena", "Catena takes only shorter messages. Nothing reached {driver}.", "sender", "pointless", "shorten", "Shorten it, or send it in two parts."),
    _entry("rejected|415|", "Catena does not take this kind of message", "Catena refused the form of the request. Nothing reached {driver}.", "us", "pointless", "escalate", "Give the text for support to your administrator."),
    _entry("rejected|422|", "Catena did not accept the content", "Catena read the message and refused what is in it or whom it is for. Nothing reached {driver}.", "sender", "pointless", "shorten", "Read its words below, change the message, and send it again."),
)  # fmt: skip


def add_missing(model: Any, entries: Iterable[dict[str, Any]] = STARTING_SET) -> int:
    """Adds each entry whose facts no entry names yet, and says how many. Idempotent; changes nothing that is there."""
    known = set(model.objects.values_list(*FACTS))
    fresh = [entry for entry in entries if tuple(entry[name] for name in FACTS) not in known]
    model.objects.bulk_create(model(**entry) for entry in fresh)
    return len(fresh)
