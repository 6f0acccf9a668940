"""Parts that the recipes for encoders share: what they make, how it is measured, views, projections."""
