"""What are pictures made of? Sheets, charts and tiles of plain arrays; knows no evidence."""
