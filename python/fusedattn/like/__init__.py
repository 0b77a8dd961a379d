"""Attention functions under the names and signatures of other libraries, one module each."""
