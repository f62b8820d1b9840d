"""Writes ssim.json: PSNR and SSIM of scikit-image for pictures that the test makes again by the same formula.

pip install numpy scikit-image; python ssim.py
"""

import json
from pathlib import Path

import numpy as np
import skimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def picture(height, width, phase):
    """[3, height, width] in [-1, 1]: a smooth pattern with an edge and a fine texture."""
    c, y, x = np.meshgrid(np.arange(3), np.arange(height), np.arange(width), indexing="ij")
    wave = np.sin(0.37 * x + 0.21 * y + 1.3 * c + phase) * np.cos(0.11 * x * (1 + c) - 0.05 * y)
    edge = np.where(x + 2 * y > width, 0.4, -0.4)
    texture = 0.1 * np.sin(2.9 * x + 3.7 * y + phase)
    return np.clip(0.6 * wave + edge + texture, -1.0, 1.0)


rows = []
for height, width, phase in [(11, 11, 0.2), (16, 24, 0.5), (32, 32, 1.0), (40, 17, 2.5)]:
    x, y = picture(height, width, 0.0), picture(height, width, phase)
    for scale in (1.0, 127.5):  # data in [-1, 1] and of width 255
        a, b, data_range = x * scale, y * scale, 2.0 * scale
        rows.append(
            {
                "height": height,
                "width": width,
                "phase": phase,
                "scale": scale,
                "data_range": data_range,
                "psnr": peak_signal_noise_ratio(a, b, data_range=data_range),
                "ssim": structural_similarity(
                    a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                    data_range=data_range, channel_axis=0,
                ),
            }
        )

out = Path(__file__).with_suffix(".json")
out.write_text(json.dumps({"scikit-image": skimage.__version__, "numpy": np.__version__, "pairs": rows}, indent=1) + "\n")
