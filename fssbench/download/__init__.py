"""Getting data sets: resumable transfer, checked hashes, extraction that stays in its folder."""
