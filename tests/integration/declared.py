"""How the declarations of these tests begin, as a format has it."""

HEAD = """
plant: demo
version: 1
owner: ot-architecture@plant.example
approved: {{by: h.keller, ticket: CHG-1, date: 2026-01-12}}
review_by: 2036-01-12
timezone: Europe/Berlin
"""
