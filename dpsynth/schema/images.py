"""What a schema declares of images."""

import math

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dpsynth.columns.kinds import Number

MAX_VALUES = 2**27
"""Most values (channels times sides) of one image, and of one image file before it is resized: 512 x 512 x 512."""


class Images(BaseModel):
    """The images of a cohort: all of one size, with values in one public range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[int, ...] = Field(
        min_length=2, max_length=3, description="Height and width, or three sides of a volume."
    )
    channels: int = Field(default=1, ge=1, le=64, description="Channels, such as 1 for grey or 3 for colour.")
    range: tuple[Number, Number] = Field(
        default=(0.0, 255.0), description="Least and greatest value of a pixel; others are clipped. The window of CT."
    )
    resize: bool = Field(default=False, description="Whether images of another size are resized; else they are errors.")
    max_per_patient: int = Field(default=1, ge=1, description="Images of a patient beyond this are dropped at random.")
    labels: tuple[str, ...] = Field(
        default=(), description="Columns that the labels of an .npz fill, in order; label, or label_0 and so on."
    )
    first_label: int = Field(
        default=0,
        ge=0,
        le=1,
        description="Number of the first value, where labels of an .npz are positions.",
    )

    @model_validator(mode="after")
    def _check(self) -> "Images":
        if any(side < 1 for side in self.size):
            raise ValueError("each side of size must be at least 1")
        if math.prod(self.shape) > MAX_VALUES:
            raise ValueError(f"an image would have more than {MAX_VALUES} values; declare a smaller size and resize")
        if self.range[0] >= self.range[1]:
            raise ValueError("range must rise")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: a column is named twice")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels and sides of one image."""
        return (self.channels, *self.size)

    @property
    def dtype(self) -> str:
        """How pixels are held: uint8 where the range is 0 to 255, else float32."""
        return "uint8" if self.range == (0.0, 255.0) else "float32"
