"""What the rows mean to the people who look after them: stories of messages, figures, health. Reads only."""
