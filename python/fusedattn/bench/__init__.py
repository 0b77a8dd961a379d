"""bench: how close fused attention comes to the machine's limit, in rounds with torch's attention."""
