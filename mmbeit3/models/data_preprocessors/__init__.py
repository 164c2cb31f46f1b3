from mmbeit3.models.data_preprocessors.batch_fixed_size_pad import BatchFixedSizePad

__all__ = ["BatchFixedSizePad"]
