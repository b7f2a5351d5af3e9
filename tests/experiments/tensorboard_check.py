#!/usr/bin/env python3
"""Reads an event folder with TensorBoard itself and compares it with what common_tensorboard_test.cpp wrote.

    tensorboard_check.py FOLDER        exit code 77: TensorBoard is not installed
"""
import sys

try:
    from tensorboard.backend.event_processing import event_accumulator
except ImportError:
    sys.exit(77)


def main(folder):
    events = event_accumulator.EventAccumulator(folder, size_guidance={"scalars": 0, "images": 0, "histograms": 0})
    events.Reload()
    tags = events.Tags()
    assert sorted(tags["scalars"]) == ["loss", "test/accuracy"], tags
    # Steps 6 to 8 of the first file were dropped by the second one, which resumed after step 5.
    loss = [(e.step, e.value) for e in events.Scalars("loss")]
    assert loss == [(step, step / 4) for step in range(6)] + [(6, 100.0), (7, 101.0)], loss
    assert [e.step for e in events.Scalars("test/accuracy")] == [0, 2, 4]
    (image,) = events.Images("samples")
    assert (image.step, image.width, image.height) == (3, 5, 4), image
    assert image.encoded_image_string.startswith(b"\x89PNG"), image
    (histogram,) = events.Histograms("weights")
    value = histogram.histogram_value
    assert (value.min, value.max, value.num, value.sum, value.sum_squares) == (-1.0, 3.0, 5.0, 5.0, 15.0), value
    assert list(value.bucket_limit) == [0.0, 1.0, 2.0, 3.0] and list(value.bucket) == [1.0, 1.0, 1.0, 2.0], value
    (note,) = events.Tensors("note/text_summary" if "note/text_summary" in tags["tensors"] else "note")
    assert note.tensor_proto.string_val[0] == "größer".encode(), note
    print("tensorboard read", len(loss), "losses")


if __name__ == "__main__":
    main(sys.argv[1])
