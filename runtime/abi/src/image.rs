//! Checkpoint images: ELF core files (ET_CORE) with notes of owner `XLATE` for what a core lacks.
