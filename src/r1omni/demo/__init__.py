"""A page in front of the API of `serving/`, for somebody who has a clip and a browser."""
