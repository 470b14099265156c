"""What the demo academy teaches: courses, and certifications by product. Portal and story share it."""

import re
from dataclasses import dataclass

__all__ = ["CERTIFICATIONS", "COURSES", "PRODUCTS", "Certification", "Course", "product_slug"]


@dataclass(frozen=True, slots=True)
class Course:
    """A course as the LMS names it in its events."""

    id: str
    name: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Certification:
    """A certification as the LMS names it; `product` is what the sales team cares about."""

    id: str
    name: str
    product: str | None = None


COURSES: tuple[Course, ...] = (
    Course("onb-101", "Welcome aboard", "4"),
    Course("demo-101", "Product demo", "3"),
    Course("demo-201", "Demo: objections", "2"),
    Course("sec-101", "Security basics", "7"),
    Course("sec-201", "Security for buyers", "1"),
    Course("atlas-101", "Atlas fundamentals", "2"),
    Course("atlas-301", "Atlas architecture", "1"),
    Course("beacon-101", "Beacon fundamentals", "5"),
    Course("price-101", "Pricing & packaging", "9"),
    Course("neg-201", "Negotiation, “the hard part”", "1"),
)

CERTIFICATIONS: tuple[Certification, ...] = (
    Certification("cert-atlas", "Atlas Certified Seller", "atlas"),
    Certification("cert-beacon", "Beacon Certified Seller", "beacon"),
    Certification("cert-harbor", "Harbor Cloud Architect", "Harbor Cloud"),
)


def product_slug(name: str) -> str:
    """Spell a product the way a property name can carry it: lower case, everything else one underscore."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


PRODUCTS: tuple[str, ...] = tuple(product_slug(c.product or c.id) for c in CERTIFICATIONS)
