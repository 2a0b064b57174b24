"""Pictures: in every encoding a camera sends, and which of them stands in which slot of the grid."""
