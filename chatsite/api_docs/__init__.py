"""What our REST says of itself: its description for programs (`/api/schema/`), and for people (`/api/docs/`)."""
