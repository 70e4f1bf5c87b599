"""Videos to pixel values: which frames are read, and how they are prepared."""
