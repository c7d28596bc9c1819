"""The torch module: tensors in, tensors out."""
