"""VQAv2 on COCO's images of 2014 and 2015, at 480 pixels.

data/coco/train2014, val2014, test2015, and data/coco/vqa with the official questions and
annotations. Trained on train and on val but for 1,000 images, which validate, as in the released
code, where chance draws them; here a seed does. Tests are those of the official server.
"""

# Images are changed as for captions: a mirrored one keeps its question, "left" and "right" too.
_base_ = "./coco_captioning_480.py"

vqa = dict(_delete_=True, type="mmbeit3.VQAv2Dataset", data_root=_base_.data_root)
train_dataloader = dict(
    batch_size=16,  # on 8 GPUs
    num_workers=10,
    dataset=dict(
        vqa,
        # In this order they give the answers of the released models, each with its label.
        questions=[
            "vqa/v2_OpenEnded_mscoco_train2014_questions.json",
            "vqa/v2_OpenEnded_mscoco_val2014_questions.json",
        ],
        annotations=[
            "vqa/v2_mscoco_train2014_annotations.json",
            "vqa/v2_mscoco_val2014_annotations.json",
        ],
        val_images=1000,
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=24,
    num_workers=10,
    dataset=dict(
        vqa,
        questions="vqa/v2_OpenEnded_mscoco_val2014_questions.json",
        annotations="vqa/v2_mscoco_val2014_annotations.json",
        val_images=1000,
        test_mode=True,
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=24,
    num_workers=10,
    dataset=dict(
        vqa,
        questions="vqa/v2_OpenEnded_mscoco_test2015_questions.json",  # or test-dev2015
        test_mode=True,
        pipeline=_base_.test_pipeline,
    ),
)

val_evaluator = dict(_delete_=True, type="mmbeit3.VQAMetric")
test_evaluator = val_evaluator
