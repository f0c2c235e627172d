"""Policies that tests of whole systems share."""

QUICK = """
first_response:
  target_seconds: { urgent: 1, high: 1, normal: 1, low: 1 }
  warn_at: 0.8
policies:
  - position: 10
    name: detractor
    event: feedback.submitted
    reason: detractor
    priority: high
    all:
      - { field: kind, operator: is, value: nps }
      - { field: normalised_score, operator: at_most, value: 0.6 }
"""
"""A case for each detractor, and clocks that run out at once."""
