typedef struct FILE FILE; /* opaque to the specs */
