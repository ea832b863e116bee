"""What each page with code runs first, out of the reader's sight."""

import logging

# TensorFlow warns of functions that it compiles for several shapes, as small examples are bound to.
logging.getLogger("tensorflow").addFilter(
    lambda record: "triggered tf.function retracing" not in record.getMessage()
)
