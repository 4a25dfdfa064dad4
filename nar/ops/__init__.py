"""Operations on tensors: the plain formula of each beside its fast forms."""
