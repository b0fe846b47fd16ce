"""What a run tells its record: plain facts gathered into the record's own parts. No number is computed here."""
