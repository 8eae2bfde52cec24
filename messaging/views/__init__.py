"""What people touch: find through `visible_to`, validate, call one function, respond."""
