"""Who the customers are: accounts, segments, tiers, countries, and the colleagues who look after them."""

from dataclasses import dataclass
from typing import NamedTuple

from touchpoint.sample.chance import Chance, scores, weighted
from touchpoint.sample.dates import HOUR


class Country(NamedTuple):
    """Where a customer is. `zone`: seconds ahead of UTC. `rate`: units of the currency for a euro."""

    region: str
    language: str
    currency: str
    rate: int
    zone: int


COUNTRIES = {
    "DE": Country("EMEA", "de", "EUR", 1, HOUR),
    "AT": Country("EMEA", "de", "EUR", 1, HOUR),
    "FR": Country("EMEA", "fr", "EUR", 1, HOUR),
    "ES": Country("EMEA", "es", "EUR", 1, HOUR),
    "PT": Country("EMEA", "pt", "EUR", 1, 0),
    "GB": Country("EMEA", "en", "GBP", 1, 0),
    "US_E": Country("AMER", "en", "USD", 1, -5 * HOUR),
    "US_W": Country("AMER", "en", "USD", 1, -8 * HOUR),
    "CA": Country("AMER", "fr", "CAD", 2, -5 * HOUR),
    "BR": Country("LATAM", "pt", "BRL", 6, -3 * HOUR),
    "MX": Country("LATAM", "es", "MXN", 20, -6 * HOUR),
    "JP": Country("APAC", "ja", "JPY", 160, 9 * HOUR),
    "IN": Country("APAC", "en", "INR", 95, 5 * HOUR + HOUR // 2),
    "AU": Country("APAC", "en", "AUD", 2, 10 * HOUR),
}
_WHERE = weighted(
    DE=18, AT=4, FR=11, ES=9, PT=4, GB=9, US_E=11, US_W=6, CA=4, BR=7, MX=5, JP=8, IN=2, AU=2
)  # of a hundred

TEAM_ZONES = {"EMEA": HOUR, "AMER": -5 * HOUR, "LATAM": -3 * HOUR, "APAC": 9 * HOUR}
"""Where the support team of a region works: seconds ahead of UTC."""

OWNERS = {
    "EMEA": ("maria.lopez", "jonas.weber", "camille.roux"),
    "AMER": ("sam.carter", "dana.kim"),
    "LATAM": ("carla.reyes", "rui.tavares"),
    "APAC": ("aiko.mori", "priya.nair"),
}

_FEATURES = ((), (), (), ("payments",), ("payments",), ("payments",), ("payments",), ("payments", "exports"))
"""The usage that a customer's installation reports: older ones report none."""

_EARLY = weighted(enterprise=32, mid_market=48, small_business=20)
_LATE = weighted(enterprise=2, mid_market=8, small_business=90)
"""Segments of those who are customers from the start, and of those who join: the mix changes as the company grows."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What is typical of a segment. `revenue`: yearly, in hundreds of euros. `key`: percent of tier `key`.

    `sites`: customers of an account. `nps`: a hundred scores of the question whether they recommend us.
    """

    label: str
    revenue: tuple[int, int]
    sites: int
    key: int
    nps: tuple[int, ...]


SEGMENTS = {
    #                                                        0  1  2  3  4  5  6   7   8   9  10
    "enterprise": Segment("enterprise", (240, 1200), 3, 60, scores(0, 0, 1, 1, 1, 2, 3, 4, 10, 16, 32, 30)),
    "mid_market": Segment("mid-market", (60, 240), 2, 10, scores(0, 1, 1, 2, 2, 3, 5, 6, 12, 18, 28, 22)),
    "small_business": Segment("small-business", (6, 30), 1, 0, scores(0, 3, 3, 4, 4, 6, 9, 12, 15, 16, 15, 13)),
}

_FIRST = (
    "Nordwind", "Bluebird", "Harbour", "Prairie", "Tanaka", "Lindgren", "Castello", "Montaigne", "Silva", "Oakfield",
    "Kestrel", "Sakura", "Ribeira", "Alpenblick", "Marlow", "Estrela", "Juniper", "Hofmann", "Lumen", "Tidewater",
    "Granite", "Aurora", "Valverde", "Quay", "Meridian", "Foxglove", "Ponte Nova", "Highfield", "Azure", "Birch",
)  # fmt: skip
_TRADE = (
    "Logistics", "Clinics", "Bakery", "Schools", "Design", "Hotels", "Foods", "Optics", "Cycles", "Books", "Pharmacy",
    "Gardens", "Fitness", "Travel", "Dental", "Kitchens", "Textiles", "Print", "Coffee", "Music",
)  # fmt: skip
_PLACES = ("North", "Centre", "South", "East", "West")


@dataclass(slots=True, eq=False)
class Customer:
    """A customer as the world knows them. `amount`: revenue per year in whole units of the currency.

    `stay` counts how often they left or came back: actions planned before are left out.
    """

    id: str
    number: int
    name: str
    account_id: str
    segment: Segment
    tier: str
    owner: str
    country: Country
    amount: int
    activity: int
    features: tuple[str, ...]
    stay: int = 0
    active: bool = True
    delivered_late: bool = False


class Accounts:
    """Makes customers one after another; those of an account share their owner, segment and country."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, str, Country, str, int]] = {}
        self._accounts = 0

    def customer(self, chance: Chance, number: int, *, early: bool) -> Customer:
        """The customer with this number, counted from 0."""
        kind = chance.pick(_EARLY if early else _LATE)
        segment = SEGMENTS[kind]
        account, name, country, owner, place = self._account(chance, kind, segment)
        low, high = segment.revenue
        several = f" {_PLACES[place % len(_PLACES)]}" if segment.sites > 1 else ""
        return Customer(
            id=f"C-{1001 + number}",
            number=number,
            name=f"{name}{several}",
            account_id=account,
            segment=segment,
            tier="key" if chance.happens(segment.key) else "standard",
            owner=owner,
            country=country,
            amount=chance.between(low, high) * 100 * country.rate,
            activity=chance.between(60, 140),
            features=chance.pick(_FEATURES),
        )

    def _account(self, chance: Chance, kind: str, segment: Segment) -> tuple[str, str, Country, str, int]:
        account, name, country, owner, place = self._open.get(kind, ("", "", COUNTRIES["DE"], "", segment.sites))
        if place >= segment.sites:
            self._accounts += 1
            country = COUNTRIES[chance.pick(_WHERE)]
            account, place = f"A-{100 + self._accounts}", 0
            name = f"{chance.pick(_FIRST)} {chance.pick(_TRADE)}"
            owner = chance.pick(OWNERS[country.region])
        self._open[kind] = (account, name, country, owner, place + 1)
        return account, name, country, owner, place
