"""What adapters of one cloud share: sessions of its SDK, and what its errors mean."""
