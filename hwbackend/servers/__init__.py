"""Recordings of real vLLM servers: tables of requests, their play on a GPU, Arrow files of it."""
