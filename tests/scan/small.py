"""A code base of three files with most of what advice speaks about."""

from __future__ import annotations

__all__ = ["AGENT", "ORDERS", "PRICES"]

PRICES = """
    import requests

    API = "https://prices.example.com"

    def prices(names):
        found = []
        for name in names:
            found.append(requests.get("https://prices.example.com/v1", params={"name": name}).json())
        return found

    def report(price):
        requests.post(API, json=price, timeout=5)
"""
AGENT = """
    import sqlite3
    import subprocess
    import requests
    from openai import AsyncOpenAI

    client = AsyncOpenAI()
    db = sqlite3.connect("data/app.db")

    async def ask(question):
        try:
            return await client.chat.completions.create(model="m", messages=[question])
        except Exception:
            return None

    async def price(name):
        return requests.get("https://prices.example.com/" + name)

    def note(text):
        db.execute("insert into notes values (?)", [text])

    def revision():
        return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True)
"""
ORDERS = """
    import httpx

    shop = httpx.Client(base_url="https://shop.internal")

    def order(item):
        return shop.post("/orders", json=item)
"""
