"""How dates and times are written where a template does not say so: the admin, above all."""
