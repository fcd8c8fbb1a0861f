"""The DNS records of a sending domain: which it needs, what the DNS says of them, and what follows from that.

wanted.py names the records; look.py asks the DNS and judges (spf.py, dmarc.py, dkim_record.py and ownership); keep.py
writes down what it found and acts on it; words.py tells it to people; standing.py sums it up.
"""
