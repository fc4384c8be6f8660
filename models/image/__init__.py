"""Models of images, with the table that their conditions come from."""
