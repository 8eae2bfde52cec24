"""Conversations between drivers and the office, as templates that `story.py` casts, dates and fills.

A line is `WHO GAP | TEXT`: `D` the driver or `O` the office, followed by `!` (high priority), `-` (low priority) or `>` (an
explicit reply to the line before), and the minutes since the line before.
"""

SCRIPTS = (
    """
    O 0 | Load {load} for {customer}: pick up at dock {dock}, gate {gate}. Appointment {time}.
    D 5 | Copy. About {minutes} minutes out.
    D {minutes} | At gate {gate}, guard says wait in the lot.
    O> 3 | Thanks. They are turning dock {dock} now, should be 15 minutes.
    D 22 | Backed in at dock {dock}.
    D 48 | Loaded and sealed, seal {seal}. Rolling.
    O- 2 | Great, safe drive.
    """,
    """
    D 0 | Been at {customer} in {city} two hours, nobody is unloading me.
    O! 4 | Thank you for telling us. What time did you check in?
    D> 3 | {time}, have it on the paper.
    O 6 | Detention started. Send a picture of the check-in slip when you get a chance.
    D 9 | Sent. They just called me to door {dock}.
    O 2 | Good. Message me when you are empty.
    D 55 | Empty. Where to next?
    O> 5 | Bobtail to the {city} yard, trailer {trailer} is ready on the fence line.
    D 3 | 10-4
    """,
    """
    O 0 | What is your ETA to {city}?
    D> 7 | About {minutes} minutes if traffic on {highway} holds up.
    O 2 | Receiver closes at {time}, you are good.
    """,
    """
    D 0 | Pulled into the {city} scale on {highway}, they want a level 2.
    O! 3 | OK. Registration and insurance are in the blue folder, permit book behind the seat.
    D 38 | All clear, no violations. Got the sticker.
    O> 2 | Excellent work. Upload the report when you stop next.
    D 4 | Will do.
    """,
    """
    D 0 | Low air warning just came on, I am on the shoulder of {highway} exit {exit}.
    O! 1 | Flashers and triangles out please. Are you clear of the lane?
    D> 2 | Yes, well off the road.
    O! 6 | Road service is on the way from {city}, {minutes} minutes. Ticket {load}.
    D 41 | Tech is here. Says it is a blown gladhand seal, easy fix.
    D 27 | Fixed. Back on the road, lost about 70 minutes.
    O> 3 | Thank you. I moved your appointment at {customer} to {time}.
    """,
    """
    O! 0 | High wind warning on {highway} past exit {exit}. Gusts to 60, empty trailers should park.
    D 6 | I am at 12,000 lb in the box. Parking at the {city} truck stop.
    O> 2 | Right call. Check again at {time}.
    D 130 | Wind is down, light trucks are moving. OK to go?
    O 4 | Go, and keep it slow over the ridge.
    D 1 | Copy
    """,
    """
    O 0 | Snow on {highway} tonight, chain law may start at exit {exit}. Do you have chains on board?
    D> 11 | Two sets, yes.
    O- 3 | Good. If you want to sit it out in {city} that is your decision.
    D 25 | I will run to {city} and look at it in the morning.
    """,
    """
    D 0 | Gate {gate} at {customer} is locked, there is nobody in the shack.
    O 2 | Try the south gate, code is {seal}.
    D> 8 | That worked. Where do I drop {trailer}?
    O 3 | Row C, any open spot. Take a photo of the trailer number please.
    D 12 | Done, spot C14.
    """,
    """
    D 0 | Picked up {trailer}, left rear outer tire is flat.
    O! 3 | Do not pull it. Is there another empty in the row?
    D> 5 | Yes, but it has no registration in the holder.
    O 9 | Take it, I emailed you the registration. Shop will fix the other one.
    D 6 | OK got it. Leaving now.
    """,
    """
    O 0 | Can you take a load out of {city} tomorrow, {time} pick up, {miles} miles?
    D 14 | What does my clock look like for that?
    O> 4 | You have a full 11 after your reset, and it delivers next day.
    D 3 | Yes I will take it.
    O 2 | Thank you! Load {load}, details in your workflow.
    """,
    """
    D 0 | The receiver refused 2 pallets, says damaged corners.
    O! 4 | Please take pictures of both and have them write it on the bill of lading.
    D 13 | Done. Bringing the 2 pallets back or leaving them?
    O> 8 | Keep them on. {customer} wants them back at the {city} warehouse.
    D 2 | 10-4, heading there.
    """,
    """
    D 0 | My tablet lost my log for about an hour this morning.
    O 10 | Please annotate it as driving, {city} to {city2}, {time}. I will approve the edit.
    D 6 | Done
    O> 3 | Approved, you are good to go.
    """,
    """
    O 0 | Reefer on {trailer} reads 41, setpoint is 34. Can you check it?
    D> 6 | Stopping at the next exit.
    D 11 | Door seal was folded over. Closed it right, pulling down now.
    O 24 | Reads 36 and falling. Thank you.
    """,
    """
    D 0 | Fuel card declined at the {city} stop.
    O! 2 | Which pump and how many gallons?
    D> 1 | Pump {dock}, need about 110.
    O 5 | Limit was hit, raised it. Try again please.
    D 4 | Went through, thanks.
    """,
    """
    O 0 | {customer} moved the appointment to {time}. You can go straight to dock {dock} when you get in.
    D 9 | Copy that.
    """,
    """
    D 0 | Accident ahead on {highway} at exit {exit}, everything is stopped.
    O 3 | Thanks, I told {customer} you will be late. Can you get off before it?
    D> 4 | No, already past the last exit.
    D 52 | Moving again. New ETA {time}.
    O> 2 | Updated, no problem.
    """,
    """
    O 0 | Safety meeting in {city} on Friday at 10:00, lunch is included. Can you make it?
    D 95 | I am home Friday so yes.
    O- 3 | See you there.
    """,
    """
    D 0 | Can I get home by Saturday? My daughter has a recital.
    O 18 | Let me see what I can do.
    O 40 | Load {load} gets you to {city} Friday night. Will that work?
    D> 3 | That works great. Thank you so much!
    """,
    """
    D 0 | At {customer}, they need a PO number to load me.
    O> 6 | PO {seal}, and the pick up number is {load}.
    D 3 | They found it. Door {dock}.
    """,
    """
    O 0 | Please call the office when parked, it is about your next week.
    D 75 | Just called, left a message.
    O 8 | Got it, calling you back.
    """,
    """
    D 0 | Check engine light came on, no loss of power. Code on the dash is SPN 3251.
    O 5 | Shop says it wants a regen. Can you park and run one at the next stop?
    D> 2 | Yes, {city} in about {minutes} minutes.
    D {minutes} | Regen running.
    D 32 | Light is off.
    O- 4 | Perfect. Write it up on your post-trip please.
    """,
    """
    O 0 | Trailer {trailer} is going out of service tonight. Drop it at the {city} shop, not the yard.
    D 12 | The one on Industrial?
    O> 2 | Yes, around back. Keys in the night box.
    """,
    """
    D 0 | Weigh bridge has me at 34,900 on the drives, need to slide the tandems.
    O 3 | Take your time. Reweigh is on us, keep the ticket.
    D 19 | 33,740 now. Good to go.
    """,
    """
    O! 0 | Amber: {highway} closed at exit {exit}, both ways. Take the detour by {city}, it is signed for trucks.
    D 8 | Seen it, already on the detour.
    O- 2 | Thanks for staying ahead of it.
    """,
)

CUSTOMERS = (
    "Harvest Foods", "Keystone Paper", "Delmar Home Goods", "Northgate Produce", "Atlas Steel Supply", "Lakeside Beverage",
    "Union Cold Storage", "Pinecrest Furniture", "Garrison Auto Parts", "Twin Rivers Dairy",
)  # fmt: skip
CORRIDORS = {
    "I-80": ("Cheyenne", "North Platte", "Des Moines", "Reno", "Salt Lake City"),
    "I-84": ("Boise", "Pendleton", "Ogden"),
    "I-90": ("Spokane", "Billings", "Sioux Falls", "Missoula"),
    "I-70": ("Kansas City", "Grand Junction", "Salina"),
    "I-44": ("Tulsa", "Joplin", "Springfield"),
    "I-40": ("Amarillo", "Flagstaff", "Albuquerque"),
    "I-82": ("Yakima", "Ellensburg", "Kennewick"),
}
"""A highway and cities on it, so that no driver is told to take a road that does not go there."""

CHATTER = (
    "Rolling out of {city}, ETA {time}.",
    "At {customer} now, waiting on a door.",
    "Empty at {customer}. Ready for my next one.",
    "Traffic is heavy on {highway}, running about {minutes} minutes behind.",
    "Shipper says dock {dock} is down, they moved me to gate {gate}.",
    "Taking my 30 at the {city} truck stop.",
    "Can you confirm the delivery number for load {load}?",
    "Trailer {trailer} has a marker light out, fixing it before I roll.",
    "Fog is bad near exit {exit} on {highway}, slowing down.",
    "Paperwork is signed, no exceptions. Leaving {customer}.",
)
