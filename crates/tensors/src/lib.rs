//! Checkpoint containers as tables of tensors, validated strictly.
