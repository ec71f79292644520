//! The whole system with its real processes. There is nothing here: see `system/`.
