"""The door to models and to the network: the only room that imports openai, anthropic and onnxruntime.

Reading order: models.py (what is known of providers and models), settings.py (what is asked for), registry.py (a name
becomes a model), address.py (who answers), prices.py (what it costs), told.py (what headers say of limits), meter.py (how
much of one limit may be used), limits.py (all of them, and who is next), remembered.py (from one run to the next), retry.py
(one loop), check.py (nothing wrong gets in), measured.py (nor too much), reply_ids.py (nor anything twice), secrets.py (no
key gets out), door.py (all of them around one request), then the models: openai_api.py, openai_batches.py, chat.py with openai_chat.py and anthropic_api.py, local.py,
minilm.py.
"""
