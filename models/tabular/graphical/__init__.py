"""The inference engine that the marginal mechanisms share."""
