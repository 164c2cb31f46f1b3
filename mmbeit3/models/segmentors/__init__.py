from mmbeit3.models.segmentors.encoder_decoder import EncoderDecoder

__all__ = ["EncoderDecoder"]
