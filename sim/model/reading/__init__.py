"""Reading a Hugging Face config.json: which parts each layer has, and in which precision."""
