"""The small CNN behind FastAPI and PyTorch, as one writes it in ten lines: `PORT THREADS`."""

import io
import sys

import fastapi
import numpy as np
import torch
import uvicorn
from PIL import Image
from torch import nn

torch.set_num_threads(int(sys.argv[2]))
model = nn.Sequential(
    *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU()),
    *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10)),
)
app = fastapi.FastAPI()


@app.post("/predict")
async def predict(request: fastapi.Request) -> dict[str, list[float]]:
    image = Image.open(io.BytesIO(await request.body())).convert("L").resize((28, 28))
    with torch.inference_mode():
        pixels = torch.from_numpy(np.asarray(image, np.float32) / 255)[None, None]
        return {"probabilities": model(pixels).softmax(1)[0].tolist()}


uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
