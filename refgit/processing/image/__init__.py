"""Images to pixel values: file, array, resize, crop, rescale, normalize."""
