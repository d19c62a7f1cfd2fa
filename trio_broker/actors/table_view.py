"""What the router shows of its table when it is asked: pages of subscriptions, and walks through all of them.

Invariant: read only; called by the router within its turn, which no question may make long.
"""

from __future__ import annotations

from typing import Any

from trio_broker.actors.messages import (
    AskFilterPlace,
    AskHeld,
    AskLeading,
    AskNewest,
    AskShareNames,
    AskSubscribers,
    AskSubscriptionPage,
    AskSubscriptionsAfter,
    AskSubscriptionsOf,
    AskTopic,
    TableQuestion,
)
from trio_broker.routing.routing_table import RoutingTable


def show(table: RoutingTable[Any], question: TableQuestion[Any]) -> None:
    """Answer a question about the table."""
    match question:
        case AskSubscriptionPage():
            question.answer((table.page(question.offset, question.limit), table.subscriptions_count))
        case AskSubscriptionsAfter():
            question.answer(table.after(question.number, question.limit))
        case AskNewest():
            question.answer(table.newest)
        case AskSubscriptionsOf():
            question.answer([(recipient, table.subscriptions_of(recipient)) for recipient in question.recipients])
        case AskSubscribers():
            question.answer(table.subscribers(question.share_name, question.match_filter))
        case AskHeld():
            share_name, match_filter = question.share_name, question.match_filter
            held = [(it, table.subscription(it, share_name, match_filter)) for it in question.recipients]
            question.answer([(recipient, one) for recipient, one in held if one is not None])
        case AskFilterPlace():
            question.answer((*table.before_filter(question.offset), table.topics_count))
        case AskLeading():
            question.answer([held.topic_filter for recipient, held in question.pairs if table.leads(recipient, held)])
        case AskShareNames():
            question.answer(table.share_names(question.match_filter))
        case AskTopic():
            question.answer(table.has_filter(question.share_name, question.match_filter))
        case _:
            raise TypeError(f"the table does not know {question!r}")
