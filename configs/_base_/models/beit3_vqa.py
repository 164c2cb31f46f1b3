"""Answers from an image and a question: BEiT-3 base at 480 pixels, from the pretrained towers."""

_base_ = "./beit3_nlvr2.py"

model = dict(
    type="mmbeit3.BEiT3VQA",
    encoder=dict(img_size=480, drop_path_rate=0.1, final_norm=False),  # no final LN, as released
    num_classes=3129,  # becomes that of the data's answers
)
