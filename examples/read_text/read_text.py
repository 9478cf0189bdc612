"""Reads text from a picture with the three PP-OCRv4 networks of the package rapidocr-onnxruntime.

The package's own pipeline runs twice on the same picture: with ONNX Runtime's sessions, and with Sinter's engines in
their place. Printed are the recognized text, the time of each stage on both, and how far the networks' outputs are
apart. Exit code 0 when both read the same and no output deviates by more than 1e-3 of its range.

usage: read_text.py [PICTURE]
"""

import os
import sys
import tempfile
import time

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import rapidocr_onnxruntime
import sinter

FONTS = "/usr/share/fonts/truetype/dejavu"
LINES = [   # text, font, size, colour, place
    ("Sinter reads this picture.", "DejaVuSans-Bold.ttf", 46, (20, 60, 140), (40, 30)),
    ("Three networks: find, turn, recognize", "DejaVuSans.ttf", 30, (30, 30, 30), (42, 110)),
    ("compiled to engines on this machine", "DejaVuSerif.ttf", 28, (140, 20, 40), (42, 166)),
    ("Invoice 2026-0417   total 1,384.50 EUR", "DejaVuSansMono.ttf", 24, (0, 90, 60), (42, 226)),
    ("small  print  is  print  too", "DejaVuSans.ttf", 19, (90, 90, 90), (44, 278)),
    ("WHITE  ON  BLUE", "DejaVuSans-Bold.ttf", 32, (255, 255, 255), (470, 268)),
]
STAGES = (("detection", "text_det", "infer"), ("direction", "text_cls", "infer"), ("recognition", "text_rec", "session"))


def render():
    picture = Image.new("RGB", (820, 340), (250, 248, 240))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((440, 258, 790, 318), fill=(30, 60, 160))
    for text, font, size, colour, place in LINES:
        draw.text(place, text, fill=colour, font=ImageFont.truetype(os.path.join(FONTS, font), size))
    return np.asarray(picture)[:, :, ::-1].copy()   # the pipeline wants BGR


class Recorder:
    """Stands in a session's place: keeps what went in and came out, and the time."""

    def __init__(self, session):
        self.session = session
        self.calls, self.seconds = [], 0.0

    def __call__(self, x):
        start = time.perf_counter()
        outputs = self.session(x)
        self.seconds += time.perf_counter() - start
        self.calls.append((x, outputs))
        return outputs

    def __getattr__(self, name):
        return getattr(self.session, name)


class EngineSession:
    """A Sinter engine where the pipeline expects its session; the list of characters still comes from the model file."""

    def __init__(self, engine, session):
        self.context = engine.context()
        self.session = session

    def __call__(self, x):
        return self.context.run(x)

    def __getattr__(self, name):
        return getattr(self.session, name)


def read(pipeline, picture):
    """Recognized lines and seconds by stage, the second of two readings (the first one warms up)."""
    for _ in range(2):
        for _, part, attribute in STAGES:
            recorder = getattr(getattr(pipeline, part), attribute)
            recorder.calls, recorder.seconds = [], 0.0
        result, _ = pipeline(picture)
    seconds = [getattr(getattr(pipeline, part), attribute).seconds for _, part, attribute in STAGES]
    return [(text, float(score)) for _, text, score in result or []], seconds


def main():
    if len(sys.argv) > 1:
        try:
            with Image.open(sys.argv[1]) as image:
                picture = np.asarray(image.convert("RGB"))[:, :, ::-1].copy()
        except (OSError, Image.DecompressionBombError) as error:
            sys.exit(f"read_text: cannot read the picture: {error}")
    else:
        picture = render()

    theirs = rapidocr_onnxruntime.RapidOCR()
    ours = rapidocr_onnxruntime.RapidOCR()
    folder = os.path.join(os.path.dirname(rapidocr_onnxruntime.__file__), "models")
    files = ("ch_PP-OCRv4_det_infer.onnx", "ch_ppocr_mobile_v2.0_cls_infer.onnx", "ch_PP-OCRv4_rec_infer.onnx")
    print("Compiling the networks:")
    with tempfile.TemporaryDirectory() as work:
        for (stage, part, attribute), file in zip(STAGES, files):
            start = time.perf_counter()
            path = os.path.join(work, stage + ".engine")
            sinter.build(os.path.join(folder, file)).save(path)
            built = time.perf_counter() - start
            start = time.perf_counter()
            engine = sinter.load(path)
            loaded = time.perf_counter() - start
            print(f"  {stage:<12} built in {built:5.2f} s, {os.path.getsize(path) / 1e6:5.1f} MB, "
                  f"loaded in {1e3 * loaded:4.1f} ms")
            session = getattr(getattr(theirs, part), attribute)
            setattr(getattr(theirs, part), attribute, Recorder(session))
            setattr(getattr(ours, part), attribute, Recorder(EngineSession(engine, session)))

    lines, our_seconds = read(ours, picture)
    their_lines, their_seconds = read(theirs, picture)

    print("\nThe picture says:\n")
    for text, score in lines:
        print(f"  | {text:<50} {100 * score:5.1f} %")
    same = [text for text, _ in lines] == [text for text, _ in their_lines]
    print(f"\n{'stage':<14}{'ONNX Runtime':>14}{'Sinter':>12}")
    for (stage, _, _), theirs_s, ours_s in zip(STAGES, their_seconds, our_seconds):
        print(f"{stage:<14}{1e3 * theirs_s:>11.1f} ms{1e3 * ours_s:>9.1f} ms")
    # The same inputs through both: pipelines would feed later stages slightly different crops.
    largest = 0.0
    for _, part, attribute in STAGES:
        for x, outputs in getattr(getattr(theirs, part), attribute).calls:
            for wanted, got in zip(outputs, getattr(getattr(ours, part), attribute).session(x)):
                span = float(np.ptp(wanted)) or 1.0
                largest = max(largest, float(np.max(np.abs(got - wanted))) / span)
    print(f"\nLargest deviation of any output from ONNX Runtime's, relative to its range: {largest:.1e}")
    if not same:
        print("The texts differ; ONNX Runtime reads:")
        for text, _ in their_lines:
            print(f"  | {text}")
    elif lines:
        print("Both read the same text.")
    else:
        print("Neither finds any text in the picture.")
    return 0 if same and lines and largest <= 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
