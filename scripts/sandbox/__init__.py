"""The world outside Coursewire, in small: a strict HubSpot, an LMS that retries, and a judge of the outcome.

Used by `coursewire demo`, by end-to-end and fault tests and by benchmarks. Nothing in here may import
`integration` or `mappings`: what checks the product must not share its mistakes.
"""
