"""What is sold, what it costs, and who has paid: periods, invoices, payments, dunning."""
