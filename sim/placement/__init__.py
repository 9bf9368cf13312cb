"""Page placement over a recorded attention trace: policies and their exact cost."""
