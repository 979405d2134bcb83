"""The databases that handlers read from and write to: which one is meant, the way to it, what its errors mean."""
