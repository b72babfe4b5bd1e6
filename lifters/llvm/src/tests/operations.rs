//! Every operation of the emitter, compiled and interpreted on the same operands.
