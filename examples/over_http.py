"""Search by HTTP, as a shop's own program would. Needs the extra `serve`; a server is started here."""

import json
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import uvicorn

import evergallery as eg
from evergallery.serving.app import create_app

folder = Path(tempfile.mkdtemp())
np.savez(folder / "v.npz", ids=["a", "b", "c"], embeddings=np.eye(3, dtype=np.float32), labels=["x", "y", "z"])
with eg.Workspace.create(folder / "shop") as shop:
    shop.import_vectors(folder / "v.npz")

server = uvicorn.Server(uvicorn.Config(create_app(folder / "shop"), port=8799, log_level="error"))
thread = threading.Thread(target=server.run)
thread.start()
while thread.is_alive() and not server.started:
    time.sleep(0.05)
question = json.dumps({"vector": [0.9, 0.1, 0.0], "generation": "v1", "k": 2}).encode()
request = urllib.request.Request("http://127.0.0.1:8799/api/v1/search", question, {"Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(request))["results"])
server.should_exit = True
thread.join()
