"""What equipment there is: channels, model cards, rules, plans; all data."""
