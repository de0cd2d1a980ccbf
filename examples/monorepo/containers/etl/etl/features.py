"""What the model wants to know about a customer."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date

from pydantic import BaseModel, Field


class Order(BaseModel):
    """One line of the export."""

    customer: str = Field(min_length=1)
    day: date
    amount: float = Field(gt=0)


class Features(BaseModel):
    """One line of the result."""

    customer: str
    orders: int
    total: float
    mean: float
    days_since_last: int


def features(orders: Iterable[Order], today: date) -> list[Features]:
    """The features of each customer as of `today`, by name."""
    by_customer: dict[str, list[Order]] = defaultdict(list)
    for order in orders:
        by_customer[order.customer].append(order)
    result = []
    for customer, theirs in sorted(by_customer.items()):
        total = sum(order.amount for order in theirs)
        result.append(
            Features(
                customer=customer,
                orders=len(theirs),
                total=round(total, 2),
                mean=round(total / len(theirs), 2),
                days_since_last=(today - max(order.day for order in theirs)).days,
            )
        )
    return result
