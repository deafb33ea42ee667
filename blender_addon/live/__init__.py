"""Live: the viewport paints as you move. painter.py holds it together; session.py and pump.py keep it going."""
